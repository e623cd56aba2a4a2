module LockdowndCookbook
  # A value that cannot stand in lockdownd's configuration. The message begins with the attribute's name.
  class Refused < ArgumentError; end

  # Ruby values as TOML. Whatever is in a string comes out as that string, never as TOML: all but plain ASCII letters,
  # digits and marks is written as an escape, so that nothing in the file can look like anything else either.
  module Toml
    # How deep lists and tables may nest.
    MAX_DEPTH = 16
    BARE_KEY = /\A[A-Za-z0-9_-]+\z/.freeze
    ESCAPED = /[^ !#-\[\]-~]/.freeze

    module_function

    # One value, as it stands after `key = `. `name` is what a refusal calls it.
    def toml(value, name, depth = 0)
      refuse(name, "nests deeper than #{MAX_DEPTH}") if depth > MAX_DEPTH
      case value
      when String, Symbol then "\"#{toml_text(value.to_s, name)}\""
      when true, false, Integer then value.to_s
      when Float then toml_float(value, name)
      when Array then "[#{value.each_with_index.map { |entry, n| toml(entry, "#{name}[#{n}]", depth + 1) }.join(', ')}]"
      when Hash then "{ #{toml_pairs(value, name, depth).join(', ')} }"
      else refuse(name, "is a #{value.class}: write a string, a number, true or false, a list or a hash")
      end
    end

    # A whole document: settings at the top first, then a table for each hash. nil is a setting that is not made.
    def toml_document(settings, name, path = [])
      tables, plain = settings.to_h.compact.partition { |_, value| value.is_a?(Hash) }
      lines = plain.map { |key, value| "#{toml_key(key, name)} = #{toml(value, "#{name}['#{key}']")}\n" }
      lines.unshift("\n[#{path.join('.')}]\n") unless path.empty? || lines.empty?
      refuse(name, "nests deeper than #{MAX_DEPTH}") if path.length > MAX_DEPTH
      tables.each { |key, table| lines << toml_document(table, "#{name}['#{key}']", path + [toml_key(key, name)]) }
      lines.join
    end

    # What stands between the quotes of a string, and may stand in a comment as well.
    def toml_text(value, name)
      utf8 = value.encoding == Encoding::BINARY ? value.dup.force_encoding(Encoding::UTF_8) : value.encode(Encoding::UTF_8)
      refuse(name, 'is not UTF-8') unless utf8.valid_encoding?
      refuse(name, 'has a NUL in it') if utf8.include?("\0")
      utf8.gsub(ESCAPED) { |char| toml_escape(char) }
    rescue EncodingError
      refuse(name, 'is not UTF-8')
    end

    def toml_key(key, name)
      key.to_s.match?(BARE_KEY) ? key.to_s : "\"#{toml_text(key.to_s, "a key of #{name}")}\""
    end

    def toml_pairs(table, name, depth)
      table.to_h.compact.map { |key, value| "#{toml_key(key, name)} = #{toml(value, "#{name}['#{key}']", depth + 1)}" }
    end

    def toml_float(value, name)
      value.finite? ? value.to_s : refuse(name, "is #{value}")
    end

    def toml_escape(char)
      case char
      when '"', '\\' then "\\#{char}"
      else format(char.ord > 0xffff ? '\\U%08X' : '\\u%04X', char.ord)
      end
    end

    def refuse(name, why)
      raise Refused, "#{name} #{why}"
    end
  end
end
