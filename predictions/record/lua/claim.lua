-- Take the lease on a prediction. Given: id, lease_seconds.
-- Returns {flat record, -1}, whose attempt is the fencing token; nothing where the prediction has ended, is gone, or
-- another worker holds it.
local id = given.id
local key = KEY.prediction(id)
if redis.call('HGET', key, 'status') ~= STATUS.starting then return false end
local attempt = redis.call('HINCRBY', key, 'attempt', 1)
redis.call('HSET', key, 'status', STATUS.processing)
redis.call('HSETNX', key, 'started_at', clock())
redis.call('HDEL', key, 'progress', 'logs')
redis.call('ZREM', KEY.queued(queue_of(id)), id)
lease(id, given.lease_seconds)
emit(id, EVENT.status, STATUS.processing)
if attempt == 1 then owe_webhook(id, WEBHOOK.start) end
return { redis.call('HGETALL', key), -1 }
