-- The seconds of music that a tenant was accepted within a day, counted by the hour: the present hour and 23 before it.
local HOUR, HOURS = 3600, 24

local function count_accepted(owner, seconds, time)
  local key, hour = KEY.accepted(owner), math.floor(time / HOUR)
  for _, counted in ipairs(redis.call('HKEYS', key)) do
    if tonumber(counted) <= hour - HOURS then redis.call('HDEL', key, counted) end
  end
  redis.call('HINCRBYFLOAT', key, hour, seconds)
  redis.call('EXPIRE', key, HOUR * HOURS)
end

-- In how many seconds, in whole ones, a tenant can be accepted this much more music; 0 where it can be now.
local function seconds_until_accepted(owner, seconds, limit, time)
  local hours, total = {}, seconds
  for place = 1, HOURS do hours[place] = math.floor(time / HOUR) - HOURS + place end
  local counts = redis.call('HMGET', KEY.accepted(owner), unpack(hours))
  for place = 1, HOURS do total = total + tonumber(counts[place] or 0) end
  if total <= limit then return 0 end
  for place = 1, HOURS do
    total = total - tonumber(counts[place] or 0)
    if total <= limit then return math.ceil((hours[place] + HOURS) * HOUR - time) end
  end
  return HOURS * HOUR
end
