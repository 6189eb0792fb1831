-- End a prediction by the worker that holds it. ARGV: id, attempt, status, webhook template, field, value, ...
-- Returns 1, or 0 where the lease is lost.
local id, attempt, status, webhook_template = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if not holds_lease(id, attempt) then return 0 end
finish(id, status, { unpack(ARGV, 5) }, webhook_template)
return 1
