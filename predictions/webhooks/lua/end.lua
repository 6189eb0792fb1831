-- Write down how an attempt to deliver a webhook ended. `outcome` is JSON; `verdict` says what follows, after
-- `retry_in_seconds` if that is another attempt. Returns 1, or 0 where the prediction has been deleted.
local delivery, number = given.id, given.number
local key = KEY.delivery(delivery)
local known = redis.call('HMGET', key, 'state', 'attempts', 'prediction')
if not known[1] then return 0 end
redis.call('HSET', key, 'outcome:' .. number, given.outcome)
if given.verdict == VERDICT.delivered then
  redis.call('HSET', key, 'state', DELIVERY.delivered)
  redis.call('ZREM', KEY.webhooks, delivery)
elseif given.verdict == VERDICT.gone then
  -- The receiver wants nothing of this prediction any more.
  redis.call('HSET', KEY.prediction(known[3]), 'webhook_gone', 1)
  for _, other in ipairs(redis.call('LRANGE', KEY.deliveries(known[3]), 0, -1)) do
    stop_delivery(other, DELIVERY.disabled)
  end
elseif known[1] == DELIVERY.pending and tonumber(known[2]) == number then
  -- Neither superseded, nor begun again meanwhile.
  if given.verdict == VERDICT.failed then
    stop_delivery(delivery, DELIVERY.failed)
  else
    local due = clock() + given.retry_in_seconds
    redis.call('HSET', key, 'due', due)
    redis.call('ZADD', KEY.webhooks, due, delivery)
  end
end
return 1
