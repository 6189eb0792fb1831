-- Renew a lease, and write down what has been reached. Returns 1, or 0 where the lease is lost.
if not holds_lease(given.id, given.attempt) then return 0 end
lease(given.id, given.lease_seconds)
write(given.id, given.fields)
return 1
