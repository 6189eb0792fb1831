-- Renew a lease and write fields into the record. Given: id, token, lease_seconds, fields (a flat list).
-- Returns 1, or 0 where the lease is lost.
local id = given.id
if not holds_lease(id, given.token) then return 0 end
if redis.call('HGET', KEY.prediction(id), 'status') == STATUS.starting then take_up_again(id) end
lease(id, given.lease_seconds)
write_fields(id, given.fields)
return 1
