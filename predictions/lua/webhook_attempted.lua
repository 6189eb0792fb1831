-- Write down one attempt to deliver a webhook. ARGV: "id:event", outcome, seconds until the next attempt or ''.
-- Returns the number of attempts made.
local member, outcome, delay = ARGV[1], ARGV[2], ARGV[3]
-- Deleted meanwhile: nothing is owed any more.
if not redis.call('ZSCORE', 'musicgen:webhooks', member) then return 0 end
local key = 'musicgen:webhook:' .. member
local attempts = redis.call('HINCRBY', key, 'attempts', 1)
redis.call('HSET', key, 'outcome', outcome, 'attempted_at', clock())
if delay == '' then
  redis.call('ZREM', 'musicgen:webhooks', member)
else
  redis.call('ZADD', 'musicgen:webhooks', clock() + delay, member)
end
return attempts
