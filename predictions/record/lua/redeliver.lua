-- Send a webhook again, at once and with all its retries. ARGV: prediction's id, webhook-id, webhook template.
-- Returns the flat record, empty where that prediction has no such delivery.
local key = 'musicgen:delivery:' .. ARGV[2]
if redis.call('HGET', key, 'prediction') ~= ARGV[1] then return {} end
enqueue_delivery(ARGV[2], ARGV[3])
return redis.call('HGETALL', key)
