-- Renew a lease, and write down what has been reached. ARGV: id, attempt, lease seconds, field, value, ...
-- Returns 1, or 0 where the lease is lost.
local id, attempt, lease_seconds = ARGV[1], ARGV[2], tonumber(ARGV[3])
if not holds_lease(id, attempt) then return 0 end
lease(id, lease_seconds)
if #ARGV > 3 then
  redis.call('HSET', 'musicgen:prediction:' .. id, unpack(ARGV, 4))
  for i = 4, #ARGV, 2 do
    if ARGV[i] == 'progress' then emit(id, 'progress', ARGV[i + 1]) end
  end
end
return 1
