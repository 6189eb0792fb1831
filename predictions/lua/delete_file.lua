-- Forget an uploaded file. ARGV: id.
redis.call('ZREM', 'musicgen:files', ARGV[1])
return redis.call('DEL', 'musicgen:file:' .. ARGV[1])
