-- A worker's sign of life. ARGV: worker's name, model card, seconds for which it counts as alive.
redis.call('SET', 'musicgen:model', ARGV[2])
redis.call('ZADD', 'musicgen:workers', clock() + ARGV[3], ARGV[1])
return 1
