-- End a prediction, by the worker that holds it. Given: id, token, status, fields (a flat list).
-- Returns 1, or 0 where the lease is lost. Repeated because its answer was lost, it finds its own work and returns 1.
local record = redis.call('HMGET', KEY.prediction(given.id), 'status', 'lease_token')
if record[1] == given.status and record[2] == given.token then return 1 end
if not holds_lease(given.id, given.token) then return 0 end
end_prediction(given.id, given.status, given.fields)
local kept = redis.call('HMGET', KEY.prediction(given.id), 'owner', 'stored_bytes')
if kept[2] then count_stored(kept[1], kept[2]) end
return 1
