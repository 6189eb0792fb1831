-- Webhooks that are owed to a client, and when their next attempt is due.

-- A message that has not led to an attempt by then is lost, and another one is sent.
local MESSAGE_LOST_SECONDS = 60

-- Webhooks of these events tell how things stand, not that something happened: they are numbered, sent at most every
-- half second, and a newer one replaces an older one.
local NUMBERED = { [WEBHOOK_EVENT.output] = true, [WEBHOOK_EVENT.logs] = true }

local function wants_webhook(id, event)
  local wanted = redis.call('HGET', KEY.prediction(id), 'webhook_events')
  return wanted and string.find(wanted, event, 1, true)
end

-- Stop a delivery that is still pending; `state` says why.
local function stop_delivery(delivery, state)
  if redis.call('HGET', KEY.delivery(delivery), 'state') ~= DELIVERY.pending then return end
  redis.call('HSET', KEY.delivery(delivery), 'state', state)
  redis.call('ZREM', KEY.webhooks, delivery)
end

local function newest_delivery(id, event)
  return id .. '-' .. event .. '-' .. (redis.call('HGET', KEY.prediction(id), 'webhooks:' .. event) or 0)
end

local function push_delivery(delivery, time)
  redis.call('ZADD', KEY.webhooks, time + MESSAGE_LOST_SECONDS, delivery)
  redis.call('LPUSH', QUEUE.webhooks, message(TEMPLATE.webhook, delivery, delivery .. ':' .. time))
end

-- Make an attempt due at once, the first of a new schedule of retries.
local function enqueue_delivery(delivery)
  local time = clock()
  redis.call('HSET', KEY.delivery(delivery), 'state', DELIVERY.pending, 'due', time, 'tries', 0)
  push_delivery(delivery, time)
end

-- Owe the client a webhook. It stays owed in `webhooks` until it is delivered or given up.
local function owe_webhook(id, event)
  local record = KEY.prediction(id)
  if not wants_webhook(id, event) or redis.call('HEXISTS', record, 'webhook_gone') == 1 then return end
  local delivery = id .. '-' .. event
  if NUMBERED[event] then
    local newest = newest_delivery(id, event)
    local known = redis.call('HMGET', KEY.delivery(newest), 'state', 'tries')
    -- The body is made when it is sent: one that has not been sent yet will carry this as well.
    if known[1] == DELIVERY.pending and known[2] == '0' then return end
    stop_delivery(newest, DELIVERY.superseded)
    delivery = delivery .. '-' .. redis.call('HINCRBY', record, 'webhooks:' .. event, 1)
  end
  redis.call('HSET', KEY.delivery(delivery), 'id', delivery, 'prediction', id, 'event', event,
    'created_at', clock(), 'attempts', 0)
  redis.call('RPUSH', KEY.deliveries(id), delivery)
  enqueue_delivery(delivery)
end
