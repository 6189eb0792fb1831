-- Forget an uploaded file. ARGV: id.
local owner = redis.call('HGET', 'musicgen:file:' .. ARGV[1], 'owner')
if owner then redis.call('ZREM', 'musicgen:owner-files:' .. owner, ARGV[1]) end
redis.call('ZREM', 'musicgen:files', ARGV[1])
return redis.call('DEL', 'musicgen:file:' .. ARGV[1])
