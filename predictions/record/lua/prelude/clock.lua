-- The clock is Redis's own: leases do not depend on the clocks of the workers agreeing.
local function clock()
  local time = redis.call('TIME')
  return string.format('%d.%06d', time[1], time[2])
end
