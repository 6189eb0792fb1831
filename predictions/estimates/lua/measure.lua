-- Let a new measurement flow into a figure of a model's throughput.
-- Given: queue, version (of the model), figure (its field), value, newest_share (what the newest value counts for),
-- keep_seconds. Returns 1.
local key, figure, value = KEY.throughput(given.queue, given.version), given.figure, given.value
local known = redis.call('HGET', key, figure) or value
redis.call('HSET', key, figure, string.format('%.9g', known + given.newest_share * (value - known)))
redis.call('EXPIRE', key, given.keep_seconds)
return 1
