-- Delete a version of a fine-tune. Given: name, owner, id.
-- Returns 1 where no fine-tune has the adapter any more, else 0.
local versions = KEY.fine_tune_versions(given.name)
if redis.call('HGET', KEY.fine_tune(given.name), 'owner') == given.owner then
  local version = redis.call('HGET', versions, given.id)
  if version then
    redis.call('HDEL', versions, given.id)
    redis.call('SREM', KEY.adapter(given.id), given.name)
    count_stored(given.owner, -cjson.decode(version).size)
  end
end
return 1 - redis.call('EXISTS', KEY.adapter(given.id))
