-- Queues, their messages, and the leases on what has been taken from them.

-- A Celery message: the template with the placeholders @ID@ and @TAG@ filled in.
local function message(template, id, tag)
  local filled = string.gsub(template, '@ID@', id)
  filled = string.gsub(filled, '@TAG@', tag)
  return filled
end

-- The queue of a prediction's model; nobody but that model's workers takes from it.
local function queue_of(id)
  return redis.call('HGET', KEY.prediction(id), 'queue') or QUEUE.generation
end

-- How many predictions are taken before this one; -1 where it does not wait.
local function position(id)
  local owner = redis.call('HGET', KEY.prediction(id), 'owner')
  return owner and place_in(queue_of(id), owner, id) or -1
end

local function generation_message(id)
  local enqueues = redis.call('HGET', KEY.prediction(id), 'enqueues')
  local filled = string.gsub(message(MESSAGE.generate, id, id .. ':' .. enqueues), '@QUEUE@', queue_of(id))
  return filled
end

-- Tell the workers that a prediction waits. `push` is LPUSH for the end of the messages, RPUSH for their front.
local function announce(id, push)
  redis.call('HINCRBY', KEY.prediction(id), 'enqueues', 1)
  redis.call(push, queue_of(id), generation_message(id))
end

-- Move what an earlier version has put into a queue to where it waits for its tenant's turn.
local function adopt(queue, limit)
  for _, id in ipairs(redis.call('ZRANGE', KEY.queued(queue), 0, limit - 1)) do
    redis.call('ZREM', KEY.queued(queue), id)
    local record = redis.call('HMGET', KEY.prediction(id), 'status', 'attempt', 'created_at', 'owner', 'input')
    if record[1] == STATUS.starting and record[2] == '0' then
      wait_for_turn(queue, record[4], id, cjson.decode(record[5]).duration or 0, 0, record[3])
    elseif record[1] == STATUS.starting then
      wait_again(queue, id, record[3])
    end
  end
end

-- Hold the lease on a prediction for this many seconds from now.
local function lease(id, seconds)
  redis.call('ZADD', KEY.leases, clock() + seconds, id)
  redis.call('SADD', KEY.running(queue_of(id)), id)
  redis.call('SADD', KEY.tenant_running(redis.call('HGET', KEY.prediction(id), 'owner')), id)
end

local function drop_lease(id)
  redis.call('ZREM', KEY.leases, id)
  redis.call('SREM', KEY.running(queue_of(id)), id)
end

-- Whether the caller may write: nobody has taken the prediction since the caller did, and it has not ended. A lease
-- that ran out unnoticed, while Redis or the worker was away, is no reason to throw away what has been made.
local function holds_lease(id, token)
  local record = redis.call('HMGET', KEY.prediction(id), 'status', 'lease_token')
  return record[2] == token and not TERMINAL[record[1]]
end

-- Whether a worker has died with it: it is then tried alone, so that it takes no neighbours along.
local function is_suspect(id)
  return tonumber(redis.call('HGET', KEY.prediction(id), 'suspicions') or 0) > 0
end

-- What a command with this token chose before, or nothing.
local function chosen_before(token)
  return redis.call('GET', KEY.chosen(token))
end

-- Remember what a command chose, for as long as it may be repeated.
local function remember_choice(token, choice)
  redis.call('SET', KEY.chosen(token), choice, 'EX', 600)
end
