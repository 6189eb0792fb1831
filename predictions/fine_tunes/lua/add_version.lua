-- Add a version to a fine-tune, or write one anew. Given: name, owner, id, size (bytes), version (JSON).
-- Returns {flat record, versions}; nothing where there is no such fine-tune of the owner.
local key, versions = KEY.fine_tune(given.name), KEY.fine_tune_versions(given.name)
if redis.call('HGET', key, 'owner') ~= given.owner then return false end
if redis.call('HSET', versions, given.id, given.version) == 1 then
  redis.call('SADD', KEY.adapter(given.id), given.name)
  count_stored(given.owner, given.size)
end
return { redis.call('HGETALL', key), redis.call('HGETALL', versions) }
