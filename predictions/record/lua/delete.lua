-- Forget an ended prediction. ARGV: id. Returns 1, or 0 where it has not ended.
local id = ARGV[1]
local record = redis.call('HMGET', 'musicgen:prediction:' .. id, 'status', 'owner')
if record[1] and not TERMINAL[record[1]] then return 0 end
if record[2] then redis.call('ZREM', 'musicgen:owner:' .. record[2], id) end
redis.call('ZREM', 'musicgen:ended', id)
for _, delivery in ipairs(redis.call('LRANGE', 'musicgen:deliveries:' .. id, 0, -1)) do
  redis.call('ZREM', 'musicgen:webhooks', delivery)
  redis.call('DEL', 'musicgen:delivery:' .. delivery)
end
redis.call('DEL', 'musicgen:prediction:' .. id, 'musicgen:events:' .. id, 'musicgen:deliveries:' .. id)
return 1
