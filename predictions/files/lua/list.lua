-- An owner's uploaded files, newest first. Given: owner, limit. Returns a list of flat records.
local files = {}
for _, id in ipairs(redis.call('ZREVRANGE', KEY.owner_files(given.owner), 0, given.limit - 1)) do
  files[#files + 1] = redis.call('HGETALL', KEY.file(id))
end
return files
