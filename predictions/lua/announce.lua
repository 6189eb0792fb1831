-- A worker's sign of life. ARGV: worker's name, its queue, model card, seconds for which it counts as alive.
redis.call('HSET', 'musicgen:models', ARGV[2], ARGV[3])
redis.call('ZADD', 'musicgen:workers:' .. ARGV[2], clock() + ARGV[4], ARGV[1])
return 1
