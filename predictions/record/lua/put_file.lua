-- Remember an uploaded file. ARGV: id, 'owner', owner, field, value, ...
local time = clock()
redis.call('HSET', 'musicgen:file:' .. ARGV[1], 'id', ARGV[1], 'created_at', time, unpack(ARGV, 2))
redis.call('ZADD', 'musicgen:files', time, ARGV[1])
redis.call('ZADD', 'musicgen:owner-files:' .. ARGV[3], time, ARGV[1])
return redis.call('HGETALL', 'musicgen:file:' .. ARGV[1])
