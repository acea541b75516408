-- Feature updates: what an entity showed before a call and what it shows after it, appended to the bucket's stream by the
-- same call. The first part of the script; `sinks/redis/outbox.py` reads what is written here.
--
-- <base>out  stream; an entry has one field `u`, a MessagePack array: incarnation, number of the first update, groups
-- group      what Python says of the view (opaque here), updates
-- update     entity, cause (opaque here), shown before, shown after; a shown is false where the entity does not live, else
--            the texts of `.null` and `.unavailable` and a value per column, each false where there is none
-- <base>in   incarnation|last number|life of the server that it was counted in: another life may have lost numbers that
--            readers have seen, so it counts anew under another incarnation

local function outbox_of(base, life, fresh, bytes_max)
  local ENTRY_UPDATES = 64 -- an entry is what the relay reads at least: bounded by so many rows
  local call, byte = redis.call, string.byte
  local stream, counter = base .. 'out', base .. 'in'
  local groups, group, held, appended = {}, nil, 0, 0
  local incarnation, number
  local outbox = {}

  -- What is there, where `adding` bytes more would be too many; a call above the limit passes by itself.
  function outbox.full(adding)
    if call('XLEN', stream) == 0 then
      return nil
    end
    local size = call('MEMORY', 'USAGE', stream)
    return size + adding > bytes_max and size or nil
  end

  function outbox.count_anew()
    incarnation, number = fresh, 0
  end

  local function count_on()
    local text = call('GET', counter) or ''
    local found, last, of_life = string.match(text, '^([^|]*)|(%d+)|(.*)$')
    if of_life == life then
      incarnation, number = found, tonumber(last)
    else
      outbox.count_anew()
    end
  end

  local function write_entry()
    if not incarnation then
      count_on()
    end
    call('XADD', stream, '*', 'u', cmsgpack.pack({ incarnation, number + 1, groups }))
    number = number + held
    call('SET', counter, string.format('%s|%.0f|%s', incarnation, number, life))
    groups, group, held = {}, nil, 0
  end

  -- What any client sees of an entity: see `shown` above.
  function outbox.shown(key, columns)
    local have = call('HMGET', key, '.p', '.null', '.unavailable', unpack(columns))
    return table.remove(have, 1) and have
  end

  local function names_of(text)
    local names = {}
    for _, name in ipairs(text and cjson.decode(text) or {}) do
      names[name] = byte(name) ~= 46 or nil -- those with a dot are not shown
    end
    return names
  end

  local function same_names(a, b)
    if a == b then return true end
    local left, right = names_of(a), names_of(b)
    for name in pairs(left) do
      if not right[name] then return false end
    end
    for name in pairs(right) do
      if not left[name] then return false end
    end
    return true
  end

  local function same(a, b)
    if not a or not b then return a == b end
    for i = 3, #a do
      if a[i] ~= b[i] then return false end
    end
    return same_names(a[1], b[1]) and same_names(a[2], b[2])
  end

  local function append(view, entity, cause, before, after)
    if not group or group[1] ~= view then
      group = { view, {} }
      groups[#groups + 1] = group
    end
    group[2][#group[2] + 1] = { entity, cause, before, after }
    held, appended = held + 1, appended + 1
    if held == ENTRY_UPDATES then
      write_entry()
    end
  end

  function outbox.note(view, entity, cause, before, after)
    if not same(before, after) then
      append(view, entity, cause, before, after)
    end
  end

  -- A delete of what Redis does not know: before a loss the entity may have lived, and readers would never hear its end.
  function outbox.note_gone(view, entity, cause)
    append(view, entity, cause, false, false)
  end

  function outbox.close()
    if held > 0 then
      write_entry()
    end
    return appended
  end

  return outbox
end

-- The columns of a section that readers see: what begins with a dot is ours.
local function shown_of(columns)
  local shown = {}
  for _, name in ipairs(columns) do
    if string.byte(name) ~= 46 then
      shown[#shown + 1] = name
    end
  end
  return shown
end
