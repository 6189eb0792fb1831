-- Let the next identical request without an Idempotency-Key have a prediction whose answer was lost.
-- ARGV: owner, digest, id, seconds.
local key = 'musicgen:offered:' .. ARGV[1] .. ':' .. ARGV[2]
-- A list: several identical requests may have lost their answers, and each of them comes again.
redis.call('RPUSH', key, ARGV[3])
redis.call('EXPIRE', key, ARGV[4])
return 1
