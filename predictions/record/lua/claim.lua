-- Take a lease on a prediction. ARGV: id, lease seconds, webhook template.
-- Returns {flat record, -1}, whose attempt is the fencing token; nothing where it has ended, is gone, or another worker
-- holds it.
local id, lease_seconds, webhook_template = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local key = 'musicgen:prediction:' .. id
if redis.call('HGET', key, 'status') ~= 'starting' then return false end
local attempt = redis.call('HINCRBY', key, 'attempt', 1)
redis.call('HSET', key, 'status', 'processing')
redis.call('HSETNX', key, 'started_at', clock())
redis.call('HDEL', key, 'progress', 'logs')
redis.call('ZREM', 'musicgen:queued:' .. queue_of(id), id)
lease(id, lease_seconds)
emit(id, 'status', 'processing')
if attempt == 1 then owe_webhook(id, 'start', webhook_template) end
return { redis.call('HGETALL', key), -1 }
