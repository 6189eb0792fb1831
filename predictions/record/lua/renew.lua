-- Renew a lease, and write down what has been reached. ARGV: id, attempt, lease seconds, webhook template, field, value,
-- ... Returns 1, or 0 where the lease is lost.
local id, attempt, lease_seconds, webhook_template = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
if not holds_lease(id, attempt) then return 0 end
lease(id, lease_seconds)
write(id, { unpack(ARGV, 5) }, webhook_template)
return 1
