-- Delete an ended prediction and all that belongs to it. Given: id. Returns 1, or 0 where it has not ended.
local id = given.id
local record = redis.call('HMGET', KEY.prediction(id), 'status', 'owner', 'stored_bytes', 'kind')
if record[1] and not TERMINAL[record[1]] then return 0 end
if record[2] then redis.call('ZREM', list_of(record[2], record[4]), id) end
if record[3] then count_stored(record[2], -record[3]) end
redis.call('ZREM', KEY.ended, id)
local owner, host = lane_of(id)
for _, delivery in ipairs(redis.call('LRANGE', KEY.deliveries(id), 0, -1)) do
  leave_lane(delivery, owner, host)
  redis.call('DEL', KEY.delivery(delivery))
end
redis.call('DEL', KEY.prediction(id), KEY.events(id), KEY.deliveries(id))
return 1
