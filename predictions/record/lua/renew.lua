-- Renew a lease and write fields into the record. Given: id, attempt, lease_seconds, fields (a flat list).
-- Returns 1, or 0 where the lease is lost.
if not holds_lease(given.id, given.attempt) then return 0 end
lease(given.id, given.lease_seconds)
write_fields(given.id, given.fields)
return 1
