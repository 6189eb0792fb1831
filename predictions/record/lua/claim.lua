-- Take a lease on a prediction. Returns {flat record, -1}, whose attempt is the fencing token; nothing where it has
-- ended, is gone, or another worker holds it.
local id, key = given.id, KEY.prediction(given.id)
if redis.call('HGET', key, 'status') ~= STATUS.starting then return false end
local attempt = redis.call('HINCRBY', key, 'attempt', 1)
redis.call('HSET', key, 'status', STATUS.processing)
redis.call('HSETNX', key, 'started_at', clock())
redis.call('HDEL', key, 'progress', 'logs')
redis.call('ZREM', KEY.queued(queue_of(id)), id)
lease(id, given.lease_seconds)
emit(id, EVENT.status, STATUS.processing)
if attempt == 1 then owe_webhook(id, WEBHOOK_EVENT.start) end
return { redis.call('HGETALL', key), -1 }
