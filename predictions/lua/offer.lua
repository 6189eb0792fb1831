-- Let the next identical request without an Idempotency-Key have a prediction whose answer was lost.
-- ARGV: owner, digest, id, seconds.
redis.call('SET', 'musicgen:offered:' .. ARGV[1] .. ':' .. ARGV[2], ARGV[3], 'EX', ARGV[4])
return 1
