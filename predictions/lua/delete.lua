-- Forget an ended prediction. ARGV: id. Returns 1, or 0 where it has not ended.
local id = ARGV[1]
local record = redis.call('HMGET', 'musicgen:prediction:' .. id, 'status', 'owner')
if record[1] and not TERMINAL[record[1]] then return 0 end
if record[2] then redis.call('ZREM', 'musicgen:owner:' .. record[2], id) end
redis.call('ZREM', 'musicgen:ended', id)
for _, event in ipairs({ 'start', 'completed' }) do
  redis.call('ZREM', 'musicgen:webhooks', id .. ':' .. event)
  redis.call('DEL', 'musicgen:webhook:' .. id .. ':' .. event)
end
redis.call('DEL', 'musicgen:prediction:' .. id, 'musicgen:events:' .. id)
return 1
