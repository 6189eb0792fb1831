-- Webhooks that are owed to clients: each change of a prediction that a client wants to hear of adds a delivery.

-- Webhooks of these events carry the present state, so a newer one replaces an older one. They are numbered, and sent
-- every half second at most.
local NUMBERED = { [WEBHOOK.output] = true, [WEBHOOK.logs] = true }

local function wants_webhook(id, event)
  local wanted = redis.call('HGET', KEY.prediction(id), 'webhook_events')
  return wanted and string.find(wanted, event, 1, true)
end

-- End a delivery that is still pending, in this state.
local function stop_delivery(delivery, state)
  local key = KEY.delivery(delivery)
  if redis.call('HGET', key, 'state') ~= DELIVERY.pending then return end
  redis.call('HSET', key, 'state', state)
  redis.call('ZREM', KEY.webhooks, delivery)
end

local function newest_delivery(id, event)
  return id .. '-' .. event .. '-' .. (redis.call('HGET', KEY.prediction(id), FIELD.webhook_count(event)) or 0)
end

-- Make a delivery due now, with a new schedule of attempts.
local function enqueue_delivery(delivery)
  local time = clock()
  redis.call('HSET', KEY.delivery(delivery), 'state', DELIVERY.pending, 'due', time, 'tries', 0)
  redis.call('ZADD', KEY.webhooks, time, delivery)
  redis.call('LPUSH', QUEUE.webhooks, message(MESSAGE.deliver_webhook, delivery, delivery .. ':' .. time))
end

-- Owe the client a webhook of this event, if it wants one. It stays owed until it is delivered or given up.
local function owe_webhook(id, event)
  local record = KEY.prediction(id)
  if not wants_webhook(id, event) or redis.call('HEXISTS', record, 'webhook_gone') == 1 then return end
  local delivery = id .. '-' .. event
  if NUMBERED[event] then
    local newest = newest_delivery(id, event)
    local known = redis.call('HMGET', KEY.delivery(newest), 'state', 'tries')
    -- The body is made when it is sent: a webhook that has not been sent yet will carry this change too.
    if known[1] == DELIVERY.pending and known[2] == '0' then return end
    stop_delivery(newest, DELIVERY.superseded)
    delivery = delivery .. '-' .. redis.call('HINCRBY', record, FIELD.webhook_count(event), 1)
  end
  redis.call('HSET', KEY.delivery(delivery), 'id', delivery, 'prediction', id, 'event', event,
    'created_at', clock(), 'attempts', 0)
  redis.call('RPUSH', KEY.deliveries(id), delivery)
  enqueue_delivery(delivery)
end
