-- Send a webhook again, at once and with all its retries. Given: id (the prediction's), webhook_id.
-- Returns the flat record, empty where the prediction has no such delivery.
local key = KEY.delivery(given.webhook_id)
if redis.call('HGET', key, 'prediction') ~= given.id then return {} end
enqueue_delivery(given.webhook_id)
return redis.call('HGETALL', key)
