-- Enqueue the webhooks whose next attempt is due. Returns how many.
-- While `limit` messages wait there is enough to do; with no worker there, they would pile up.
if redis.call('LLEN', QUEUE.webhooks) >= given.limit then return 0 end
local time = clock()
local due = redis.call('ZRANGEBYSCORE', KEY.webhooks, '-inf', time, 'LIMIT', 0, given.limit)
for _, delivery in ipairs(due) do
  push_delivery(delivery, time)
end
return #due
