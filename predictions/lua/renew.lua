-- Renew a lease, and write down what has been reached. ARGV: id, attempt, lease seconds, webhook template, field, value,
-- ... Returns 1, or 0 where the lease is lost.
local id, attempt, lease_seconds, webhook_template = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
if not holds_lease(id, attempt) then return 0 end
lease(id, lease_seconds)
if #ARGV > 4 then
  write(id, { unpack(ARGV, 5) }, webhook_template)
  for i = 5, #ARGV, 2 do
    if ARGV[i] == 'progress' then emit(id, 'progress', ARGV[i + 1]) end
  end
end
return 1
