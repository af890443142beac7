//! NVIDIA's GPUs, through the driver that candle uses.
#![allow(unsafe_code)]

use super::Gpu;
use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::cublas::{result::gemm_strided_batched_ex, sys as blas};
use candle_core::cuda_backend::cudarc::driver::sys::CUmemPool_attribute as PoolAttribute;
use candle_core::cuda_backend::cudarc::driver::{
    CudaContext, DevicePtr, DevicePtrMut, DriverError, result, sys,
};
use candle_core::op::BackpropOp;
use candle_core::{CudaStorage, Device, Layout, Result, Storage, Tensor, bail};
use half::bf16;

pub(super) fn gpus() -> std::result::Result<Vec<Gpu>, String> {
    libraries_are_there()?;
    let told = |what: &str, e: DriverError| {
        format!("the NVIDIA driver {what} ({e:?}); see whether `nvidia-smi` works as this user")
    };
    result::init().map_err(|e| told("does not start", e))?;
    let count = result::device::get_count().map_err(|e| told("tells no GPU", e))?;
    let driver = driver_version();
    let describe = |number: usize| {
        let context = CudaContext::new(number).map_err(|e| told("does not open a GPU", e))?;
        Ok(Gpu {
            number,
            name: context.name().map_err(|e| told("tells no name", e))?,
            memory: context.total_mem().map_err(|e| told("tells no memory", e))?,
            compute_capability: context.compute_capability().map_err(|e| told("tells no version", e))?,
            driver,
        })
    };
    let all: std::result::Result<Vec<Gpu>, String> =
        (0..usize::try_from(count).unwrap_or(0)).map(describe).collect();
    match all {
        Ok(all) if all.is_empty() => Err("the NVIDIA driver tells no GPU; see `nvidia-smi`".to_owned()),
        all => all,
    }
}

/// A GPU with a single stream that orders creation, use and release of its tensors, and at most `most` bytes for them.
///
/// candle's default is a stream per thread: then nothing would order a tensor's creation in a thread before its use in
/// another.
pub(super) fn open(number: usize, most: Option<usize>) -> Result<Device> {
    let device = Device::new_cuda_with_stream(number)?;
    let cuda = device.as_cuda_device()?;
    // SAFETY: events order the uses of a tensor on several streams. All tensors of this device are made, used and freed on its
    // one stream; an upload (below) is complete before its tensor exists.
    unsafe { cuda.disable_event_tracking() };
    if let Some(most) = most {
        bounded(&device, number, most)?;
    }
    // What is freed stays with this process: given back to the driver at each synchronisation, it would have to be asked for
    // again for the next case.
    if let Some(pool) = pool(&device) {
        let mut everything = u64::MAX;
        // SAFETY: the pool is the device's own, and the attribute is a number of 64 bits.
        let _ = unsafe {
            let value = std::ptr::from_mut(&mut everything).cast();
            result::mem_pool::set_attribute(pool, PoolAttribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, value)
        };
    }
    Ok(device)
}

/// Has a device's tensors allocated from a pool that ends at `most` bytes: then the driver itself refuses more, whoever asks.
fn bounded(device: &Device, number: usize, most: usize) -> Result<()> {
    /// `CUmemPoolProps` of cuda.h since CUDA 12.2; before it, `max_size` was reserved, and older drivers refuse it.
    #[repr(C)]
    struct PoolProperties {
        allocation_type: u32,
        handle_types: u32,
        location_type: u32,
        location: i32,
        security: usize,
        max_size: usize,
        reserved: [u8; 56],
    }
    const PINNED: u32 = 1;
    const OF_DEVICE: u32 = 1;
    let properties = PoolProperties {
        allocation_type: PINNED,
        handle_types: 0,
        location_type: OF_DEVICE,
        location: i32::try_from(number).map_err(candle_core::Error::wrap)?,
        security: 0,
        max_size: most,
        reserved: [0; 56],
    };
    if pool(device).is_none() {
        return Ok(());
    }
    // SAFETY: the properties are laid out as the driver reads them; the pool is not destroyed as long as this process lives.
    unsafe {
        let pool = result::mem_pool::create(std::ptr::from_ref(&properties).cast()).w()?;
        let stream = device.as_cuda_device()?.cuda_stream();
        result::device::set_mem_pool(stream.context().cu_device(), pool).w()
    }
}

pub(super) fn free_memory(device: &Device) -> Option<usize> {
    let (free, _) = device.as_cuda_device().ok()?.cuda_stream().context().mem_get_info().ok()?;
    let reserved = held(device, PoolAttribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT).unwrap_or(0);
    let used = used_memory(device).unwrap_or(reserved);
    Some(free + reserved.saturating_sub(used))
}

pub(super) fn used_memory(device: &Device) -> Option<usize> {
    held(device, PoolAttribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)
}

fn held(device: &Device, attribute: PoolAttribute) -> Option<usize> {
    let mut bytes = 0_u64;
    let value = std::ptr::from_mut(&mut bytes).cast();
    // SAFETY: the pool is the device's own, and the attribute is a number of 64 bits.
    let told = unsafe { result::mem_pool::get_attribute(pool(device)?, attribute, value) };
    told.ok().and_then(|()| usize::try_from(bytes).ok())
}

/// What a device's tensors are allocated from, where it has such a thing.
fn pool(device: &Device) -> Option<sys::CUmemoryPool> {
    let stream = device.as_cuda_device().ok()?.cuda_stream();
    let context = stream.context();
    if !context.has_async_alloc() {
        return None;
    }
    // SAFETY: a context that is open has a device, and a device that allocates in order has a pool.
    unsafe { result::device::get_mem_pool(context.cu_device()).ok() }
}

/// On a stream of its own, so that it passes by what is computed meanwhile.
pub(super) fn uploaded(
    values: &[f32],
    shape: (usize, usize, usize, usize),
    device: &Device,
) -> Result<Tensor> {
    let cuda = device.as_cuda_device()?;
    let computing = cuda.cuda_stream();
    let beside = computing.context().new_stream().w()?;
    let slice = beside.clone_htod(values).w()?;
    beside.synchronize().w()?;
    let (pointer, n) = (slice.leak(), values.len());
    // SAFETY: the memory holds `n` floats, all of them there since the stream was waited for; nobody else has it, and from
    // here on it is used and freed in the order of the computing stream.
    let slice = unsafe { computing.upgrade_device_ptr::<f32>(pointer, n) };
    let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(slice, cuda.clone()));
    Ok(Tensor::from_storage(storage, shape, BackpropOp::none(), false))
}

/// Of row-major matrices, which cuBLAS sees as the transposed ones: (x yᵀ)ᵀ = y xᵀ.
pub(super) fn wide_product(
    (x, of_x): (&CudaStorage, &Layout),
    (y, of_y): (&CudaStorage, &Layout),
    [b, m, n, k]: [usize; 4],
    scale: f32,
) -> Result<CudaStorage> {
    let device = x.device();
    let stream = device.cuda_stream();
    let all = |storage: &'_ CudaStorage, layout: &Layout, rows: usize| -> Result<sys::CUdeviceptr> {
        let first = layout.start_offset();
        if !layout.is_contiguous() || layout.shape().elem_count() != b * rows * k {
            bail!("a product of {:?} is not one of {b} x {rows} x {k} without gaps", layout.dims());
        }
        Ok(storage.as_cuda_slice::<bf16>()?.slice(first..first + b * rows * k).device_ptr(&stream).0)
    };
    let (from_x, from_y) = (all(x, of_x, m)?, all(y, of_y, n)?);
    // SAFETY: the product below writes every number of it.
    let mut out = unsafe { device.alloc::<f32>(b * m * n)? };
    let int = |n: usize| i32::try_from(n).map_err(candle_core::Error::wrap);
    let (stride_x, stride_y, stride_out) = ((m * k) as i64, (n * k) as i64, (m * n) as i64);
    let (zero, (rows, columns, depth)) = (0f32, (int(n)?, int(m)?, int(k)?));
    {
        let (to, _guard) = out.device_ptr_mut(&stream);
        // SAFETY: the three matrices have the sizes that are told, checked above and allocated here, and all of it happens in
        // the order of the device's one stream, which is the handle's.
        let done = unsafe {
            gemm_strided_batched_ex(
                *device.cublas_handle().handle(),
                blas::cublasOperation_t::CUBLAS_OP_T,
                blas::cublasOperation_t::CUBLAS_OP_N,
                rows,
                columns,
                depth,
                std::ptr::from_ref(&scale).cast(),
                from_y as *const _,
                blas::cudaDataType_t::CUDA_R_16BF,
                depth,
                stride_y,
                from_x as *const _,
                blas::cudaDataType_t::CUDA_R_16BF,
                depth,
                stride_x,
                std::ptr::from_ref(&zero).cast(),
                to as *mut _,
                blas::cudaDataType_t::CUDA_R_32F,
                rows,
                stride_out,
                int(b)?,
                blas::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                blas::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT_TENSOR_OP,
            )
        };
        done.w()?;
    }
    Ok(CudaStorage::wrap_cuda_slice(out, device.clone()))
}

/// candle loads them when it is first asked for, and panics without.
fn libraries_are_there() -> std::result::Result<(), String> {
    let all = [("NVIDIA's driver", "libcuda"), ("cuBLAS", "libcublas"), ("cuRAND", "libcurand")];
    match all.iter().find(|(_, library)| !is_there(library)) {
        None => Ok(()),
        Some((what, library)) => Err(format!(
            "{what} ({library}.so) is not found; install it, or name its folder in LD_LIBRARY_PATH (host/cuda/README.md)"
        )),
    }
}

/// Under one of the names that candle's loader tries.
fn is_there(library: &str) -> bool {
    ["", ".13", ".12", ".11", ".10", ".1"].iter().any(|version| {
        // SAFETY: it opens NVIDIA's library of that name, as the dynamic linker would, and closes it again. No function of it
        // is called.
        unsafe { libloading::Library::new(format!("{library}.so{version}")) }.is_ok()
    })
}

fn driver_version() -> i32 {
    let mut version = 0;
    // SAFETY: the driver was initialised, and writes one number where it is told to.
    let _ = unsafe { sys::cuDriverGetVersion(&mut version) };
    version
}
