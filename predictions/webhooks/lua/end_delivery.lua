-- Write down how an attempt to deliver a webhook ended, and what follows.
-- Given: webhook_id, attempt (its number), outcome (as JSON), verdict, retry_in_seconds (where the verdict is retry).
-- Returns 1, or 0 where the prediction has been deleted since.
local delivery, verdict, key = given.webhook_id, given.verdict, KEY.delivery(given.webhook_id)
local known = redis.call('HMGET', key, 'state', 'attempts', 'prediction')
local state, attempts, id = unpack(known)
if not state then return 0 end
redis.call('HSET', key, FIELD.attempt_outcome(given.attempt), given.outcome)
if verdict == VERDICT.delivered then
  settle_delivery(delivery, DELIVERY.delivered)
elseif verdict == VERDICT.gone then
  -- The receiver wants no more webhooks of this prediction.
  redis.call('HSET', KEY.prediction(id), 'webhook_gone', 1)
  for _, other in ipairs(redis.call('LRANGE', KEY.deliveries(id), 0, -1)) do
    stop_delivery(other, DELIVERY.disabled)
  end
elseif state == DELIVERY.pending and tonumber(attempts) == given.attempt then
  -- Neither superseded nor begun again meanwhile.
  if verdict == VERDICT.failed then
    stop_delivery(delivery, DELIVERY.failed)
  else
    fall_due(delivery, clock() + given.retry_in_seconds)
  end
end
return 1
