//! The table of known scripts: what each does, which libraries send it, and its text. The texts are
//! as those libraries send them, byte for byte, since their SHA1 is their name.

use crate::command::Script;

/// A row of the table.
pub struct Known {
    /// What it does.
    pub script: Script,
    /// Its name.
    pub sha1: &'static str,
    /// Which library sends it, in which versions, and for what.
    #[cfg_attr(not(test), expect(dead_code, reason = "for people, and for the specification"))]
    pub library: &'static str,
    /// Its text.
    #[cfg_attr(not(test), expect(dead_code, reason = "for people, and to compute the name from"))]
    pub text: &'static str,
}

/// All of them.
#[rustfmt::skip]
pub static TABLE: &[Known] = &[
    Known {
        script: Script::DeleteIfEqual,
        library: "redis-py 3.5 to 8.1, `Lock.release`; so django-redis and dogpile.cache",
        sha1: "c3f8721cbb97f72bc19e972846bd7aaf91901658",
        text: concat!(
            "\n        local token = redis.call('get', KEYS[1])\n",
            "        if not token or token ~= ARGV[1] then\n            return 0\n        end\n",
            "        redis.call('del', KEYS[1])\n        return 1\n    ",
        ),
    },
    Known {
        script: Script::DeleteIfEqual,
        library: "aiocache 0.12, `RedLock`",
        sha1: "ae3671744a5dbb24ea37ef607b8b10ac7856d43e",
        text: "if redis.call('get',KEYS[1]) == ARGV[1] then return redis.call('del',KEYS[1]) else return 0 end",
    },
    Known {
        script: Script::DeleteIfEqual,
        library: "redlock-py 1.0, `unlock`",
        sha1: "4e92fdc63815b3a0a2dd1c1df3694de73607c88d",
        text: concat!(
            "\n    if redis.call(\"get\",KEYS[1]) == ARGV[1] then\n",
            "        return redis.call(\"del\",KEYS[1])\n    else\n        return 0\n    end",
        ),
    },
    Known {
        script: Script::DeleteIfEqual,
        library: "Laravel, release of a lock",
        sha1: "647c65a442733a1aa440f99908d249d13b4d6c4a",
        text: concat!(
            "if redis.call(\"get\",KEYS[1]) == ARGV[1] then\n    return redis.call(\"del\",KEYS[1])\nelse\n",
            "    return 0\nend",
        ),
    },
    Known {
        script: Script::DeleteIfEqual,
        library: "cashews 7.6, unlock",
        sha1: "b948f76fda6b97319d3426a2fb42b0d4f02c7146",
        text: concat!(
            " if redis.call(\"GET\", KEYS[1]) == ARGV[1] then     return redis.call(\"DEL\", KEYS[1]) else",
            "     return 0 end ",
        ),
    },
    Known {
        script: Script::DeleteIfEqual,
        library: "pottery 3.0, `Redlock.release`",
        sha1: "a4aada0b36710970eedaaaeec4a6b7d8c78c4f80",
        text: concat!(
            "\n                if redis.call('get', KEYS[1]) == ARGV[1] then\n",
            "                    return redis.call('del', KEYS[1])\n                else\n",
            "                    return 0\n                end\n            ",
        ),
    },
    Known {
        script: Script::DeleteIfEqual,
        library: "redis-semaphore 5.8, release of a `Mutex`",
        sha1: "7157921a7cc7cfba979acf6d63f073151df17d12",
        text: concat!(
            "\n  local key = KEYS[1]\n  local identifier = ARGV[1]\n\n",
            "  if redis.call('get', key) == identifier then\n    return redis.call('del', key)\n  end\n\n",
            "  return 0\n  ",
        ),
    },
    Known {
        script: Script::ExpireIfEqual,
        library: "redis-py 3.5 to 8.1, `Lock.reacquire`",
        sha1: "1cac51482acf5858da00f6d685d68f886cd6b6b2",
        text: concat!(
            "\n        local token = redis.call('get', KEYS[1])\n",
            "        if not token or token ~= ARGV[1] then\n            return 0\n        end\n",
            "        redis.call('pexpire', KEYS[1], ARGV[2])\n        return 1\n    ",
        ),
    },
    Known {
        script: Script::ExpireIfEqual,
        library: "pottery 3.0, `Redlock.extend`",
        sha1: "ba015a80261b616e7a62d35df0b8e3edbe6c9414",
        text: concat!(
            "\n                if redis.call('get', KEYS[1]) == ARGV[1] then\n",
            "                    return redis.call('pexpire', KEYS[1], ARGV[2])\n                else\n",
            "                    return 0\n                end\n            ",
        ),
    },
    Known {
        script: Script::ExpireIfEqual,
        library: "redis-semaphore 5.8, refresh of a `Mutex`",
        sha1: "594683e49a64ebaf975caf5f8079a1d097c438f1",
        text: concat!(
            "\n  local key = KEYS[1]\n  local identifier = ARGV[1]\n  local lockTimeout = ARGV[2]\n\n",
            "  local value = redis.call('get', key)\n\n  if value == identifier then\n",
            "    redis.call('pexpire', key, lockTimeout)\n    return 1\n  end\n\n  return 0\n  ",
        ),
    },
    Known {
        script: Script::Extend,
        library: "redis-py 3.5 to 8.1, `Lock.extend`",
        sha1: "a4e8783852e6b949f9ef3a97212805108459a890",
        text: concat!(
            "\n        local token = redis.call('get', KEYS[1])\n",
            "        if not token or token ~= ARGV[1] then\n            return 0\n        end\n",
            "        local expiration = redis.call('pttl', KEYS[1])\n        if not expiration then\n",
            "            expiration = 0\n        end\n        if expiration < 0 then\n",
            "            return 0\n        end\n\n        local newttl = ARGV[2]\n",
            "        if ARGV[3] == \"0\" then\n            newttl = ARGV[2] + expiration\n        end\n",
            "        redis.call('pexpire', KEYS[1], newttl)\n        return 1\n    ",
        ),
    },
    Known {
        script: Script::TtlIfEqual,
        library: "pottery 3.0, `Redlock.locked`",
        sha1: "f5f7bd3a3aa4a63c507c1155c5ea1219b350d992",
        text: concat!(
            "\n                if redis.call('get', KEYS[1]) == ARGV[1] then\n",
            "                    local pttl = redis.call('pttl', KEYS[1])\n",
            "                    return (pttl > 0) and pttl or 0\n                else\n",
            "                    return 0\n                end\n            ",
        ),
    },
    Known {
        script: Script::SetIfEqual,
        library: "aiocache 0.12, `OptimisticLock`",
        sha1: "782e993d12091daacc7a3164ddf5c4624fe56042",
        text: concat!(
            "if redis.call('get',KEYS[1]) == ARGV[2] then  if #ARGV == 4 then   return",
            " redis.call('set', KEYS[1], ARGV[1], ARGV[3], ARGV[4])  else   return redis.call('set',",
            " KEYS[1], ARGV[1])  end else return 0 end",
        ),
    },
    Known {
        script: Script::SetIfAbsent,
        library: "Laravel, `Cache::add`",
        sha1: "a08c9c69b7c07ae2485190873b90d128a23e502d",
        text: "return redis.call('exists',KEYS[1])<1 and redis.call('setex',KEYS[1],ARGV[2],ARGV[1])",
    },
    Known {
        script: Script::AddIfPresent,
        library: "django-redis 5.0 to 7.0, `incr`",
        sha1: "f4a7da3e5d8ea3b46642af08427151cae0190400",
        text: concat!(
            "\n                    local exists = redis.call('EXISTS', KEYS[1])\n",
            "                    if (exists == 1) then\n",
            "                        return redis.call('INCRBY', KEYS[1], ARGV[1])\n",
            "                    else return false end\n                    ",
        ),
    },
    Known {
        script: Script::Add,
        library: "django-redis 5.0 to 7.0, `incr` with `ignore_key_check`",
        sha1: "4d15273b16b10c15e1d9202cbe93c959ab7d250b",
        text: "\n                    return redis.call('INCRBY', KEYS[1], ARGV[1])\n                    ",
    },
    Known {
        script: Script::CountSeconds,
        library: "limits 2.8 to 5.8, fixed window",
        sha1: "628bd136a573a06b346879695681af12ccef300f",
        text: concat!(
            "local current\nlocal amount = tonumber(ARGV[2])\n",
            "current = redis.call(\"incrby\", KEYS[1], amount)\n\nif tonumber(current) == amount then\n",
            "    redis.call(\"expire\", KEYS[1], ARGV[1])\nend\n\nreturn current\n",
        ),
    },
    Known {
        script: Script::CountMillis,
        library: "cashews 7.6, `incr` with `expire`",
        sha1: "0f8a745c1b5efe281bd1299ea0d1b2994c6ae601",
        text: concat!(
            " local current_count = redis.call(\"INCRBY\", KEYS[1], ARGV[1]) if current_count == 1 then ",
            "    redis.call(\"PEXPIRE\", KEYS[1], ARGV[2]) end return current_count ",
        ),
    },
    Known {
        script: Script::CountLimited,
        library: "rate-limiter-flexible 2.4 to 11.4",
        sha1: "a1de965f42e177aa339706bd580f049065eca79a",
        text: concat!(
            "redis.call('set', KEYS[1], 0, 'EX', ARGV[2], 'NX') local consumed = redis.call('incrby',",
            " KEYS[1], ARGV[1]) local ttl = redis.call('pttl', KEYS[1]) if ttl == -1 then  ",
            " redis.call('expire', KEYS[1], ARGV[2])   ttl = 1000 * ARGV[2] end return {consumed, ttl} ",
        ),
    },
    Known {
        script: Script::CountReset,
        library: "rate-limit-redis 4.2, increment",
        sha1: "3f424a504987d231baa2e19159bb5def8ad32f87",
        text: concat!(
            "local totalHits = redis.call(\"INCR\", KEYS[1])\n",
            "local timeToExpire = redis.call(\"PTTL\", KEYS[1])\nif timeToExpire <= 0 or ARGV[1] == \"1\"\n",
            "then\nredis.call(\"PEXPIRE\", KEYS[1], tonumber(ARGV[2]))\ntimeToExpire = tonumber(ARGV[2])\n",
            "end\nreturn { totalHits, timeToExpire }",
        ),
    },
    Known {
        script: Script::CountWindow,
        library: "rate-limit-redis 6.0, increment",
        sha1: "895b92e1712734e1b464999be23953485475357b",
        text: concat!(
            "local windowMs = tonumber(ARGV[1])\nlocal timeToExpire = redis.call(\"PTTL\", KEYS[1])\n",
            "if timeToExpire <= 0 then\nredis.call(\"SET\", KEYS[1], 1, \"PX\", windowMs)\n",
            "return { 1, windowMs }\nend\nlocal totalHits = redis.call(\"INCR\", KEYS[1])        \n",
            "return { totalHits, timeToExpire }",
        ),
    },
    Known {
        script: Script::ReadWindow,
        library: "rate-limit-redis 4.2 to 6.0, get",
        sha1: "6aeb97ed6086dcdeafdc6fda3999a0d0e38ec96a",
        text: concat!(
            "local totalHits = redis.call(\"GET\", KEYS[1])\n",
            "local timeToExpire = redis.call(\"PTTL\", KEYS[1])\nreturn { totalHits, timeToExpire }",
        ),
    },
    Known {
        script: Script::SlidingWindow,
        library: "limits 4.7 to 5.8, state of a sliding window",
        sha1: "e7a0a27d4101baabb124af209bb0245197a359a1",
        text: concat!(
            "local expiry = tonumber(ARGV[1]) * 1000\nlocal previous_count = redis.call('get', KEYS[1])\n",
            "local previous_ttl = redis.call('pttl', KEYS[1])\n",
            "local current_count = redis.call('get', KEYS[2])\n",
            "local current_ttl = redis.call('pttl', KEYS[2])\n\n",
            "if current_ttl > 0 and current_ttl < expiry then\n",
            "    -- Current window expired, shift it to the previous window\n",
            "    redis.call('rename', KEYS[2], KEYS[1])\n",
            "    redis.call('set', KEYS[2], 0, 'PX', current_ttl + expiry)\n",
            "    previous_count = redis.call('get', KEYS[1])\n",
            "    previous_ttl = redis.call('pttl', KEYS[1])\n",
            "    current_count = redis.call('get', KEYS[2])\n",
            "    current_ttl = redis.call('pttl', KEYS[2])\nend\n\n",
            "return {previous_count, previous_ttl, current_count, current_ttl}\n",
        ),
    },
    Known {
        script: Script::AcquireSlidingWindow,
        library: "limits 4.7 to 5.8, hit of a sliding window",
        sha1: "e8ac2a60cb040b0dbb56815a1e9c6fd032ce62e7",
        text: concat!(
            "-- Time is in milliseconds in this script: TTL, expiry...\n\nlocal limit = tonumber(ARGV[1])\n",
            "local expiry = tonumber(ARGV[2]) * 1000\nlocal amount = tonumber(ARGV[3])\n\n",
            "if amount > limit then\n    return false\nend\n\n",
            "local current_ttl = tonumber(redis.call('pttl', KEYS[2]))\n\n",
            "if current_ttl > 0 and current_ttl < expiry then\n",
            "    -- Current window expired, shift it to the previous window\n",
            "    redis.call('rename', KEYS[2], KEYS[1])\n",
            "    redis.call('set', KEYS[2], 0, 'PX', current_ttl + expiry)\nend\n\n",
            "local previous_count = tonumber(redis.call('get', KEYS[1])) or 0\n",
            "local previous_ttl = tonumber(redis.call('pttl', KEYS[1])) or 0\n",
            "local current_count = tonumber(redis.call('get', KEYS[2])) or 0\n",
            "current_ttl = tonumber(redis.call('pttl', KEYS[2])) or 0\n\n",
            "-- If the values don't exist yet, consider the TTL is 0\nif previous_ttl <= 0 then\n",
            "    previous_ttl = 0\nend\nif current_ttl <= 0 then\n    current_ttl = 0\nend\n",
            "local weighted_count = math.floor(previous_count * previous_ttl / expiry) + current_count\n\n",
            "if (weighted_count + amount) > limit then\n    return false\nend\n\n",
            "-- If the current counter exists, increase its value\n",
            "if redis.call('exists', KEYS[2]) == 1 then\n    redis.call('incrby', KEYS[2], amount)\nelse\n",
            "    -- Otherwise, set the value with twice the expiry time\n",
            "    redis.call('set', KEYS[2], amount, 'PX', expiry * 2)\nend\n\nreturn true\n",
        ),
    },
    Known {
        script: Script::Lock,
        library: "redlock (npm) 4.2, `lock`",
        sha1: "e5a322e2634ef59a516e8ea150cb085afafee684",
        text: concat!(
            "\n\t-- Return 0 if an entry already exists.\n\tfor i, key in ipairs(KEYS) do\n",
            "\t\tif redis.call(\"exists\", key) == 1 then\n\t\t\treturn 0\n\t\tend\n\tend\n\n",
            "\t-- Create an entry for each provided key.\n\tfor i, key in ipairs(KEYS) do\n",
            "\t\tredis.call(\"set\", key, ARGV[1], \"PX\", ARGV[2])\n\tend\n\n",
            "\t-- Return the number of entries added.\n\treturn #KEYS\n",
        ),
    },
    Known {
        script: Script::Lock,
        library: "redlock (npm) 5.0 beta 2, `acquire`",
        sha1: "96da70f7716f27d278a5218544df37fd8b0a5e4c",
        text: concat!(
            "\n  -- Return 0 if an entry already exists.\n  for i, key in ipairs(KEYS) do\n",
            "    if redis.call(\"exists\", key) == 1 then\n      return 0\n    end\n  end\n\n",
            "  -- Create an entry for each provided key.\n  for i, key in ipairs(KEYS) do\n",
            "    redis.call(\"set\", key, ARGV[1], \"PX\", ARGV[2])\n  end\n\n",
            "  -- Return the number of entries added.\n  return #KEYS\n",
        ),
    },
    Known {
        script: Script::Unlock,
        library: "redlock (npm) 4.2, `unlock`",
        sha1: "0f0f23b9048b36752b5be114f357ba083449f908",
        text: concat!(
            "\n\tlocal count = 0\n\tfor i, key in ipairs(KEYS) do\n",
            "\t\t-- Only remove entries for *this* lock value.\n",
            "\t\tif redis.call(\"get\", key) == ARGV[1] then\n\t\t\tredis.pcall(\"del\", key)\n",
            "\t\t\tcount = count + 1\n\t\tend\n\tend\n\n\t-- Return the number of entries removed.\n",
            "\treturn count\n",
        ),
    },
    Known {
        script: Script::Unlock,
        library: "redlock (npm) 5.0 beta 2, `release`",
        sha1: "e4612211c9f8f51c257e26e056b0a654b3187242",
        text: concat!(
            "\n  local count = 0\n  for i, key in ipairs(KEYS) do\n",
            "    -- Only remove entries for *this* lock value.\n",
            "    if redis.call(\"get\", key) == ARGV[1] then\n      redis.pcall(\"del\", key)\n",
            "      count = count + 1\n    end\n  end\n\n  -- Return the number of entries removed.\n",
            "  return count\n",
        ),
    },
    Known {
        script: Script::Relock,
        library: "redlock (npm) 4.2, `extend`",
        sha1: "ce46f80993d5dac20dd066eb301a4e37994bdbed",
        text: concat!(
            "\n\t-- Return 0 if an entry exists with a *different* lock value.\n",
            "\tfor i, key in ipairs(KEYS) do\n\t\tif redis.call(\"get\", key) ~= ARGV[1] then\n",
            "\t\t\treturn 0\n\t\tend\n\tend\n\n\t-- Update the entry for each provided key.\n",
            "\tfor i, key in ipairs(KEYS) do\n\t\tredis.call(\"set\", key, ARGV[1], \"PX\", ARGV[2])\n",
            "\tend\n\n\t-- Return the number of entries updated.\n\treturn #KEYS\n",
        ),
    },
    Known {
        script: Script::Relock,
        library: "redlock (npm) 5.0 beta 2, `extend`",
        sha1: "aed6f382e410db8ba7926d4e5e9aab410bf2a78a",
        text: concat!(
            "\n  -- Return 0 if an entry exists with a *different* lock value.\n",
            "  for i, key in ipairs(KEYS) do\n    if redis.call(\"get\", key) ~= ARGV[1] then\n",
            "      return 0\n    end\n  end\n\n  -- Update the entry for each provided key.\n",
            "  for i, key in ipairs(KEYS) do\n    redis.call(\"set\", key, ARGV[1], \"PX\", ARGV[2])\n",
            "  end\n\n  -- Return the number of entries updated.\n  return #KEYS\n",
        ),
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::script::sha1_of;

    #[test]
    fn every_script_is_named_by_the_sha1_of_its_text_and_is_there_once() {
        for known in TABLE {
            assert_eq!(sha1_of(known.text.as_bytes()), known.sha1, "{}", known.library);
            assert_eq!(TABLE.iter().filter(|other| other.sha1 == known.sha1).count(), 1, "{}", known.sha1);
            assert_eq!(Script::find(known.sha1.to_uppercase().as_bytes()), Some(known.script));
        }
        assert_eq!(Script::find(sha1_of(b"return 1").as_bytes()), None);
    }

    #[test]
    fn the_specification_lists_every_script() {
        let spec = include_str!("../../../proto-spec/commands.md");
        for known in TABLE {
            let row = format!("| `{}` | {} | `{:?}` |", known.sha1, known.library, known.script);
            assert!(spec.contains(&row), "commands.md lacks this row:\n{row}");
        }
    }
}
