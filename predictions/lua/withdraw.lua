-- A worker's farewell. ARGV: worker's name.
return redis.call('ZREM', 'musicgen:workers', ARGV[1])
