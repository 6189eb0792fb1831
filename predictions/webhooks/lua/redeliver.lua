-- Send a webhook again, at once and with all its retries. Returns the flat record, empty where the prediction has no such
-- delivery.
local key = KEY.delivery(given.delivery)
if redis.call('HGET', key, 'prediction') ~= given.id then return {} end
enqueue_delivery(given.delivery)
return redis.call('HGETALL', key)
