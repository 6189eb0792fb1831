-- Take the prediction that has waited longest, and the lease on it.
-- Given: queue, token (that of the new lease), lease_seconds, beside (ids that the same worker works on already), held
-- (the tokens of its leases on them), no_audio (whether it has no place to fetch input audio in), no_audio_of (owners
-- who have no such place there).
-- Returns {flat record, -1}; nothing where none waits, or where the first one may not be taken now.
local function answer(id) return { redis.call('HGETALL', KEY.prediction(id)), -1 } end

local before = chosen_before(given.token)
if before then return holds_lease(before, given.token) and answer(before) end

-- A suspect is tried alone: nothing is taken beside it, and it waits until its worker has nothing else to do.
for _, id in ipairs(given.beside) do
  if is_suspect(id) then return false end
end
local mine, without_place = {}, {}
for _, token in ipairs(given.held) do mine[token] = true end
for _, owner in ipairs(given.no_audio_of) do without_place[owner] = true end

local function is_passed_over(id)
  local record = redis.call('HMGET', KEY.prediction(id), 'lease_token', 'needs_audio', 'owner')
  -- One that this worker holds waits only because its lease ran out; its next renewal takes it up again.
  return mine[record[1]] or record[2] and (given.no_audio or without_place[record[3]])
end

local function first_waiting()
  local page_size, pages = 50, 20
  for page = 0, pages - 1 do
    local ids = redis.call('ZRANGE', KEY.queued(given.queue), page * page_size, (page + 1) * page_size - 1)
    for _, id in ipairs(ids) do
      if not is_passed_over(id) then return id end
    end
    if #ids < page_size then return end
  end
end

local id = first_waiting()
if not id then return false end
local alone = #given.beside == 0
if is_suspect(id) and not alone then return false end

local key = KEY.prediction(id)
local attempt = redis.call('HINCRBY', key, 'attempt', 1)
redis.call('HSET', key, 'status', STATUS.processing, 'lease_token', given.token)
redis.call('HSETNX', key, 'started_at', clock())
redis.call('HDEL', key, 'progress', 'logs', 'live_chunks', 'alone')
if alone then redis.call('HSET', key, 'alone', 1) end
for _, other in ipairs(given.beside) do redis.call('HDEL', KEY.prediction(other), 'alone') end
redis.call('ZREM', KEY.queued(given.queue), id)
lease(id, given.lease_seconds)
emit(id, EVENT.status, STATUS.processing)
if attempt == 1 then owe_webhook(id, WEBHOOK.start) end
remember_choice(given.token, id)
return answer(id)
