-- Renew a lease, and write down what has been reached. ARGV: id, attempt, lease seconds, field, value, ...
-- Returns 1, or 0 where the lease is lost.
local id, attempt, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
if not holds_lease(id, attempt) then return 0 end
redis.call('ZADD', 'musicgen:leases', clock() + lease, id)
write_down(id, { unpack(ARGV, 4) })
return 1
