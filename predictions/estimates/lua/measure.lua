-- Let a new measurement flow into the throughput of a queue's model. `newest_share`: how much of the kept figure the
-- newest one makes.
local key = KEY.throughput(given.queue, given.version)
local known = redis.call('HGET', key, given.name) or given.value
redis.call('HSET', key, given.name, string.format('%.9g', known + given.newest_share * (given.value - known)))
redis.call('EXPIRE', key, given.kept_seconds)
return 1
