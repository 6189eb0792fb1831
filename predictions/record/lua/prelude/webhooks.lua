-- Webhooks that are owed to clients: each change of a prediction that a client wants to hear of adds a delivery.

-- Webhooks of these events carry the present state, so a newer one replaces an older one. They are numbered, and sent
-- every half second at most.
local NUMBERED = { [WEBHOOK.output] = true, [WEBHOOK.logs] = true }

local function wants_webhook(id, event)
  local wanted = redis.call('HGET', KEY.prediction(id), 'webhook_events')
  return wanted and string.find(wanted, event, 1, true)
end

-- The lane in which a prediction's deliveries wait: its owner and the receiver's host.
local function lane_of(id)
  local record = redis.call('HMGET', KEY.prediction(id), 'owner', 'webhook_host')
  return record[1] or '', record[2] or ''
end

-- Have the owner's hosts, and the owners, stand at the time of what is first in this lane.
local function order_lane(owner, host)
  local first = redis.call('ZRANGE', KEY.webhooks(owner, host), 0, 0, 'WITHSCORES')
  if first[2] then
    redis.call('ZADD', KEY.webhook_hosts(owner), first[2], host)
  else
    redis.call('ZREM', KEY.webhook_hosts(owner), host)
  end
  first = redis.call('ZRANGE', KEY.webhook_hosts(owner), 0, 0, 'WITHSCORES')
  if first[2] then
    redis.call('ZADD', KEY.webhook_owners, first[2], owner)
  else
    redis.call('ZREM', KEY.webhook_owners, owner)
  end
end

-- Have the next attempt at a delivery fall due then.
local function fall_due(delivery, time)
  local key = KEY.delivery(delivery)
  local owner, host = lane_of(redis.call('HGET', key, 'prediction'))
  redis.call('HSET', key, 'due', time)
  redis.call('ZADD', KEY.webhooks(owner, host), time, delivery)
  order_lane(owner, host)
end

-- Have no further attempt at a delivery that waits in this lane.
local function leave_lane(delivery, owner, host)
  redis.call('ZREM', KEY.webhooks(owner, host), delivery)
  redis.call('ZREM', KEY.all_webhooks, delivery)
  order_lane(owner, host)
end

-- End a delivery in this state: there are no further attempts.
local function settle_delivery(delivery, state)
  local key = KEY.delivery(delivery)
  redis.call('HSET', key, 'state', state)
  leave_lane(delivery, lane_of(redis.call('HGET', key, 'prediction')))
end

-- The same, where it is still pending.
local function stop_delivery(delivery, state)
  if redis.call('HGET', KEY.delivery(delivery), 'state') ~= DELIVERY.pending then return end
  settle_delivery(delivery, state)
end

local function newest_delivery(id, event)
  return id .. '-' .. event .. '-' .. (redis.call('HGET', KEY.prediction(id), FIELD.webhook_count(event)) or 0)
end

-- Make a delivery due now, with a new schedule of attempts.
local function enqueue_delivery(delivery)
  local time = clock()
  redis.call('HSET', KEY.delivery(delivery), 'state', DELIVERY.pending, 'tries', 0)
  fall_due(delivery, time)
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
