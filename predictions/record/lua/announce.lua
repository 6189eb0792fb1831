-- A worker's sign of life. ARGV: worker's name, its queue, model card, seconds for which it counts as alive.
redis.call('SADD', 'musicgen:queues', ARGV[2])
redis.call('HSET', 'musicgen:cards', ARGV[2], ARGV[3])
redis.call('ZADD', 'musicgen:workers:' .. ARGV[2], clock() + ARGV[4], ARGV[1])
return 1
