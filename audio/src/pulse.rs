//! Questions to a PulseAudio server that cpal does not ask: monitors, defaults, and where our own streams are.
//!
//! A connection here is blocking, bounded by timeouts and speaks one question at a time. Sound goes through cpal.

use std::ffi::CString;
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ::pulseaudio::protocol::{
    AuthParams, AuthReply, ClientInfoList, Command, CommandReply, MAX_VERSION, Prop, Props, ProtocolError, ServerInfo,
    SetClientNameReply, SinkInfoList, SinkInputInfoList, SourceInfoList, SourceOutputInfoList, SubscriptionMask,
    read_ack_message, read_command_message, read_reply_message, write_command_message,
};

use crate::device::{Backend, Device, Direction};
use crate::error::{Error, Result};

/// A server that takes longer than this to answer is treated as gone.
const ANSWER: Duration = Duration::from_secs(1);

/// One connection to the server.
pub(crate) struct Connection {
    socket: BufReader<UnixStream>,
    version: u16,
    sequence: u32,
}

/// A stream of this process, as the server sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnStream {
    pub direction: Direction,
    pub index: u32,
    /// Name of the device that it is connected to now.
    pub device: String,
}

/// The server's devices, defaults and our streams at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Topology {
    pub capture: Vec<Device>,
    pub playback: Vec<Device>,
    pub streams: Vec<OwnStream>,
}

impl Topology {
    pub(crate) fn devices(self, direction: Direction) -> Vec<Device> {
        match direction {
            Direction::Capture => self.capture,
            Direction::Playback => self.playback,
        }
    }

    pub(crate) fn of(&self, direction: Direction) -> &[Device] {
        match direction {
            Direction::Capture => &self.capture,
            Direction::Playback => &self.playback,
        }
    }
}

/// What became of a wait for news.
pub(crate) enum News {
    /// Something changed; look again.
    Changed,
    /// Nothing within the timeout.
    Quiet,
}

impl Connection {
    /// Connects and introduces this program.
    pub(crate) fn open() -> Result<Connection> {
        let path = ::pulseaudio::socket_path_from_env()
            .ok_or_else(|| Error::NoSoundServer { why: "no server socket was found".into() })?;
        let unreachable = |why: String| Error::NoSoundServer { why: format!("{}: {why}", path.display()) };
        let socket = UnixStream::connect(&path).map_err(|error| unreachable(error.to_string()))?;
        socket
            .set_read_timeout(Some(ANSWER))
            .and_then(|()| socket.set_write_timeout(Some(ANSWER)))
            .map_err(|error| unreachable(error.to_string()))?;
        let cookie = ::pulseaudio::cookie_path_from_env().and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
        let mut connection = Connection { socket: BufReader::new(socket), version: MAX_VERSION, sequence: 0 };

        let auth = AuthParams { version: MAX_VERSION, supports_shm: false, supports_memfd: false, cookie };
        let reply: AuthReply = connection.ask(&Command::Auth(auth))?;
        connection.version = MAX_VERSION.min(reply.version);
        let mut props = Props::new();
        props.set(Prop::ApplicationName, c"Eddy (device watch)");
        let _: SetClientNameReply = connection.ask(&Command::SetClientName(props))?;
        Ok(connection)
    }

    fn ask<R: CommandReply>(&mut self, command: &Command) -> Result<R> {
        let sequence = self.send(command)?;
        match read_reply_message(&mut self.socket, self.version) {
            Ok((number, reply)) if number == sequence => Ok(reply),
            Ok((number, _)) => Err(lost(format!("answer {number} to question {sequence}"))),
            Err(error) => Err(lost(error.to_string())),
        }
    }

    fn send(&mut self, command: &Command) -> Result<u32> {
        let sequence = self.sequence;
        self.sequence += 1;
        write_command_message(self.socket.get_mut(), sequence, command, self.version)
            .map_err(|error| lost(error.to_string()))?;
        Ok(sequence)
    }

    /// Everything that matters here, in six questions.
    pub(crate) fn topology(&mut self) -> Result<Topology> {
        let server: ServerInfo = self.ask(&Command::GetServerInfo)?;
        let sources: SourceInfoList = self.ask(&Command::GetSourceInfoList)?;
        let sinks: SinkInfoList = self.ask(&Command::GetSinkInfoList)?;
        let clients: ClientInfoList = self.ask(&Command::GetClientInfoList)?;
        let outputs: SourceOutputInfoList = self.ask(&Command::GetSourceOutputInfoList)?;
        let inputs: SinkInputInfoList = self.ask(&Command::GetSinkInputInfoList)?;

        // cpal gives its streams no name of their own; its connection carries our process id.
        let pid = format!("{}\0", std::process::id());
        let ours: Vec<u32> = clients
            .iter()
            .filter(|client| client.props.get(Prop::ApplicationProcessId) == Some(pid.as_bytes()))
            .map(|client| client.index)
            .collect();
        let is_ours = |client: Option<u32>| client.is_some_and(|index| ours.contains(&index));

        let mut topology = Topology::default();
        for stream in outputs.iter().filter(|stream| is_ours(stream.client_index)) {
            if let Some(source) = sources.iter().find(|source| source.index == stream.source_index) {
                let device = text(&source.name);
                topology.streams.push(OwnStream { direction: Direction::Capture, index: stream.index, device });
            }
        }
        for stream in inputs.iter().filter(|stream| is_ours(stream.client_index)) {
            if let Some(sink) = sinks.iter().find(|sink| sink.index == stream.sink_index) {
                let device = text(&sink.name);
                topology.streams.push(OwnStream { direction: Direction::Playback, index: stream.index, device });
            }
        }
        topology.capture = sources
            .iter()
            .map(|source| Device {
                backend: Backend::Pulse,
                direction: Direction::Capture,
                name: text(&source.name),
                description: text(source.description.as_ref().unwrap_or(&source.name)),
                monitor: source.monitor_of_sink_index.is_some(),
                default: server.default_source_name.as_ref() == Some(&source.name),
                sample_rate: source.sample_spec.sample_rate,
                channels: u16::from(source.sample_spec.channels),
            })
            .collect();
        topology.playback = sinks
            .iter()
            .map(|sink| Device {
                backend: Backend::Pulse,
                direction: Direction::Playback,
                name: text(&sink.name),
                description: text(sink.description.as_ref().unwrap_or(&sink.name)),
                monitor: false,
                default: server.default_sink_name.as_ref() == Some(&sink.name),
                sample_rate: sink.sample_spec.sample_rate,
                channels: u16::from(sink.sample_spec.channels),
            })
            .collect();
        Ok(topology)
    }

    /// Turns this connection into one that only hears news of devices, defaults and streams.
    pub(crate) fn subscribe(mut self) -> Result<Subscription> {
        let mask = SubscriptionMask::SINK
            | SubscriptionMask::SOURCE
            | SubscriptionMask::SINK_INPUT
            | SubscriptionMask::SOURCE_OUTPUT
            | SubscriptionMask::SERVER;
        self.send(&Command::Subscribe(mask))?;
        read_ack_message(&mut self.socket).map_err(|error| lost(error.to_string()))?;
        Ok(Subscription(self))
    }
}

/// A connection on which the server speaks and we do not: a question here could take an event for its answer.
pub(crate) struct Subscription(Connection);

impl Subscription {
    /// Waits for one piece of news; an error means that the server has gone.
    pub(crate) fn wait(&mut self, timeout: Duration) -> Result<News> {
        let Connection { socket, version, .. } = &mut self.0;
        let timed = |socket: &BufReader<UnixStream>, timeout| socket.get_ref().set_read_timeout(Some(timeout));
        timed(socket, timeout).map_err(|error| lost(error.to_string()))?;
        // Only waits: a timeout in the middle of a message would lose its place in the stream.
        match socket.fill_buf() {
            Ok([]) => return Err(lost("it closed the connection".into())),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(News::Quiet);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(News::Quiet),
            Err(error) => return Err(lost(error.to_string())),
        }
        timed(socket, ANSWER).map_err(|error| lost(error.to_string()))?;
        match read_command_message(socket, *version) {
            Ok(_) => Ok(News::Changed),
            // A newer server may tell of things that this protocol version does not know.
            Err(ProtocolError::Io(error)) => Err(lost(error.to_string())),
            Err(ProtocolError::Unimplemented(..)) => Ok(News::Changed),
            Err(error) => Err(lost(error.to_string())),
        }
    }
}

fn lost(why: String) -> Error {
    Error::NoSoundServer { why: format!("the connection to the server broke: {why}") }
}

fn text(name: &CString) -> String {
    name.to_string_lossy().into_owned()
}
