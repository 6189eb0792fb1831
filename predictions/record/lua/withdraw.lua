-- A worker's farewell. ARGV: worker's name, its queue.
return redis.call('ZREM', 'musicgen:workers:' .. ARGV[2], ARGV[1])
