-- Remember an uploaded file, unless it takes its owner over the limit of what is kept.
-- Given: id, owner, size, max_stored_bytes (-1 for no limit), fields (a flat list).
-- Returns the flat record, nothing where the limit is reached.
local key, time = KEY.file(given.id), clock()
-- The id is new for each upload: whoever comes with it again has lost the answer.
if redis.call('EXISTS', key) == 1 then return redis.call('HGETALL', key) end
if given.max_stored_bytes >= 0 and stored_bytes(given.owner) + given.size > given.max_stored_bytes then return false end
redis.call('HSET', key, 'id', given.id, 'owner', given.owner, 'created_at', time, 'size', given.size,
  'stored_bytes', given.size, unpack(given.fields))
redis.call('ZADD', KEY.files, time, given.id)
redis.call('ZADD', KEY.owner_files(given.owner), time, given.id)
count_stored(given.owner, given.size)
return redis.call('HGETALL', key)
