-- Enqueue the webhooks whose next attempt is due. ARGV: webhook template, limit. Returns how many.
-- While so many messages wait there is enough to do, and were nobody there to do it, they would pile up.
if redis.call('LLEN', 'webhooks') >= tonumber(ARGV[2]) then return 0 end
local time = clock()
local due = redis.call('ZRANGEBYSCORE', 'musicgen:webhooks', '-inf', time, 'LIMIT', 0, ARGV[2])
for _, delivery in ipairs(due) do
  -- Another message in a minute, should this one or its worker get lost; what is not due is not begun twice.
  redis.call('ZADD', 'musicgen:webhooks', time + 60, delivery)
  redis.call('LPUSH', 'webhooks', message(ARGV[1], delivery, delivery .. ':' .. time))
end
return #due
