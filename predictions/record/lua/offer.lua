-- Offer a prediction whose answer was lost to the next identical request without an Idempotency-Key.
-- Given: owner, digest, id, seconds (for which it is offered). Returns 1.
local key = KEY.offered(given.owner, given.digest)
-- A list: several identical requests may have lost their answers, and each of them comes again.
if not redis.call('LPOS', key, given.id) then redis.call('RPUSH', key, given.id) end
redis.call('EXPIRE', key, given.seconds)
return 1
