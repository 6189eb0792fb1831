-- ARGV: id. Returns the flat record, empty where there is none.
return redis.call('HGETALL', 'musicgen:file:' .. ARGV[1])
