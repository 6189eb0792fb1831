-- Write down how an attempt to deliver a webhook ended.
-- ARGV: webhook-id, number of the attempt, its outcome as JSON, what follows: delivered | retry | failed | gone; for
-- retry, the seconds until then.
local delivery, number, outcome, verdict = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local key = 'musicgen:delivery:' .. delivery
local known = redis.call('HMGET', key, 'state', 'attempts', 'prediction')
-- Deleted meanwhile.
if not known[1] then return 0 end
redis.call('HSET', key, 'outcome:' .. number, outcome)
if verdict == 'delivered' then
  redis.call('HSET', key, 'state', 'delivered')
  redis.call('ZREM', 'musicgen:webhooks', delivery)
elseif verdict == 'gone' then
  -- The receiver wants nothing of this prediction any more.
  redis.call('HSET', 'musicgen:prediction:' .. known[3], 'webhook_gone', 1)
  for _, other in ipairs(redis.call('LRANGE', 'musicgen:deliveries:' .. known[3], 0, -1)) do
    stop_delivery(other, 'disabled')
  end
elseif known[1] == 'pending' and known[2] == number then
  -- Neither superseded, nor begun again meanwhile.
  if verdict == 'failed' then
    stop_delivery(delivery, 'failed')
  else
    local due = clock() + ARGV[5]
    redis.call('HSET', key, 'due', due)
    redis.call('ZADD', 'musicgen:webhooks', due, delivery)
  end
end
return 1
