-- Let a new measurement flow into a queue's pace. ARGV: queue, version of its model, share that the newest makes, seconds
-- to keep it, name, value.
local key, name, value = 'musicgen:pace:' .. ARGV[1] .. ':' .. ARGV[2], ARGV[5], ARGV[6]
local known = redis.call('HGET', key, name) or value
redis.call('HSET', key, name, string.format('%.9g', known + ARGV[3] * (value - known)))
redis.call('EXPIRE', key, ARGV[4])
return 1
