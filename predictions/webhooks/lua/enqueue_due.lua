-- Enqueue the webhooks whose next attempt is due. Given: limit. Returns how many.
-- While as many messages as the limit wait, nothing is added: the workers have enough to do, or there are none.
if redis.call('LLEN', QUEUE.webhooks) >= given.limit then return 0 end
local time = clock()
local due = redis.call('ZRANGEBYSCORE', KEY.webhooks, '-inf', time, 'LIMIT', 0, given.limit)
for _, delivery in ipairs(due) do
  push_delivery(delivery, time)
end
return #due
